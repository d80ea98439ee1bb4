from tests.backends.conftest import fake_trtexec

__all__ = ["fake_trtexec"]
