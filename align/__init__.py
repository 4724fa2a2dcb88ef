"""align: preferences to reward model to policy to evaluation, from one config.

Importing this package does no work and loads no heavy library; ``python -m align --help`` starts here.
"""

__version__ = "0.1.0"
