"""Folders, archives and stores, as the tests of the store have them."""

from tests.store.conftest import anywhere, archive, proxy, proxy_server, quick, sample  # noqa: F401 (fixtures)
