"""The fixtures of the plugin: pytest finds them by itself only where the distribution is installed as a wheel."""

from laneway.testing.plugin import laneway_clock, laneway_installation, laneway_platform  # noqa: F401
