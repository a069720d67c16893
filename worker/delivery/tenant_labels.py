"""A bounded set of tenants for metrics: each label value is a series that Prometheus keeps."""

import threading

from shared.models import NO_TENANT

#: The tenants that have no series of their own, together.
OTHER = "other"
#: Work that is nobody's in particular.
NOBODY = "none"


class TenantLabels:
    """The first tenants a process counts have a series each, the rest share ``other``.

    Attributes:
        most: how many have their own.
    """

    def __init__(self, most: int = 50) -> None:
        self.most = most
        self._known: set[str] = set()
        self._lock = threading.Lock()

    def label(self, tenant_id: str | None) -> str:
        """The label value for a tenant; the same for as long as the process lives."""
        if not tenant_id or tenant_id == str(NO_TENANT):
            return NOBODY
        if tenant_id in self._known:
            return tenant_id
        with self._lock:
            if len(self._known) >= self.most:
                return OTHER
            self._known.add(tenant_id)
        return tenant_id


#: Of this process; the settings say how many.
TENANTS = TenantLabels()
