"""Environments of option books and portfolios; importing this registers them with gymnasium."""

from envs.registration import register_environments

register_environments()
