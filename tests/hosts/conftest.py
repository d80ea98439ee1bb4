from tests.backends.conftest import device

__all__ = ["device"]
