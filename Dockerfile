# The quickstart in a box; its results come out in outputs/:
#   docker build -t polyhedgerl .
#   docker run --rm -v "$PWD/outputs:/home/polyhedge/outputs" polyhedgerl
# Any command instead: docker run --rm ... polyhedgerl polyhedge train +exp=production
FROM python:3.12-slim AS build
WORKDIR /source
COPY . .
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.12-slim
# Of torch the build without CUDA, which is a tenth as large; --build-arg TORCH_INDEX= for the other.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
COPY constraints.txt /tmp/constraints.txt
COPY --from=build /wheels /wheels
RUN pip install --no-cache-dir -c /tmp/constraints.txt ${TORCH_INDEX:+--extra-index-url $TORCH_INDEX} \
    /wheels/polyhedgerl-*.whl
RUN useradd --create-home --uid 1000 polyhedge
USER polyhedge
WORKDIR /home/polyhedge
RUN mkdir outputs
CMD ["sh", "-c", "polyhedge train +exp=quickstart && polyhedge evaluate run=\"$(ls -td outputs/quickstart/*/* | head -n 1)\""]
