"""The faults, a row each: what begins it, and what ends it."""

import os
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TypeVar

from tests.chaos.plan import PlannedFault
from tests.chaos.proxy import Mode, Proxy
from tests.chaos.system import System

#: Ends a fault that lasts.
End = Callable[[], None]
#: A fault's end, and how long it lasts in seconds; ``None`` when it is over at once.
Begun = tuple[float, End] | None
Begin = Callable[[System, PlannedFault], Begun]
T = TypeVar("T")


class NotNow(Exception):
    """The thing to break is broken already: try again in a moment."""


def pick(choices: Sequence[T], dice: float) -> T:
    """One of the choices.

    Raises:
        NotNow: there is none.
    """
    if not choices:
        raise NotNow
    return choices[int(dice * len(choices))]


def _between(low: float, high: float, dice: float) -> float:
    return low + (high - low) * dice


def kill_pool_child(system: System, fault: PlannedFault) -> Begun:
    for crew in system.crews:
        with suppress(ProcessLookupError):
            os.kill(pick(crew.pool_children(), fault.dice).pid, signal.SIGKILL)
    return None


def kill_worker_group(system: System, fault: PlannedFault) -> Begun:
    for crew in system.crews:
        os.killpg(pick(crew.workers(), fault.dice).pid, signal.SIGKILL)
    return None


def kill_worker_main(system: System, fault: PlannedFault) -> Begun:
    for crew in system.crews:
        os.kill(pick(crew.workers(), fault.dice).pid, signal.SIGKILL)
    return None


def kill_beat(system: System, fault: PlannedFault) -> Begun:
    for crew in system.crews:
        for process in crew.others():
            os.killpg(process.pid, signal.SIGKILL)
    return None


def freeze_worker(system: System, fault: PlannedFault) -> Begun:
    frozen = [pick(crew.workers(), fault.dice) for crew in system.crews]
    for process in frozen:
        os.killpg(process.pid, signal.SIGSTOP)

    def thaw() -> None:
        for process in frozen:
            # One that was killed meanwhile is not there to be woken.
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGCONT)

    return system.lease_seconds * _between(1.2, 1.8, fault.dice), thaw


def kill_broker(system: System, fault: PlannedFault) -> Begun:
    return _kill_broker(system, fault, keep_data=True)


def kill_broker_and_data(system: System, fault: PlannedFault) -> Begun:
    return _kill_broker(system, fault, keep_data=False)


def _kill_broker(system: System, fault: PlannedFault, *, keep_data: bool) -> Begun:
    valkey = system.servers.valkey
    if not valkey.alive:
        raise NotNow
    valkey.kill()

    def restart() -> None:
        valkey.restart(keep_data=keep_data)

    return _between(0.0, 3.0, fault.dice), restart


def empty_broker(system: System, fault: PlannedFault) -> Begun:
    if not system.servers.valkey.alive:
        raise NotNow
    with system.servers.redis() as redis:
        redis.flushall()
    return None


def restart_database(system: System, fault: PlannedFault) -> Begun:
    postgres = system.servers.postgres
    if not postgres.alive:
        raise NotNow
    # SIGQUIT is PostgreSQL's immediate shutdown: no checkpoint, recovery at the start.
    postgres.kill(signal.SIGQUIT)

    def restart() -> None:
        postgres.restart()

    return _between(0.0, 2.0, fault.dice), restart


def _cut(proxy: Proxy) -> Begun:
    proxy.cut()
    return None


def _delay(proxy: Proxy, fault: PlannedFault) -> Begun:
    _require_whole(proxy)
    proxy.slow_down(_between(0.05, 0.3, fault.dice))
    return _between(2.0, 4.0, fault.dice), proxy.heal


def _swallow(proxy: Proxy, seconds: float) -> Begun:
    _require_whole(proxy)
    proxy.swallow()
    return seconds, proxy.heal


def _require_whole(proxy: Proxy) -> None:
    if proxy.mode is not Mode.PASS:
        raise NotNow


def cut_broker(system: System, fault: PlannedFault) -> Begun:
    return _cut(system.servers.broker_proxy)


def delay_broker(system: System, fault: PlannedFault) -> Begun:
    return _delay(system.servers.broker_proxy, fault)


def swallow_broker(system: System, fault: PlannedFault) -> Begun:
    seconds = system.lease_seconds * _between(0.5, 1.5, fault.dice)
    return _swallow(system.servers.broker_proxy, seconds)


def cut_database(system: System, fault: PlannedFault) -> Begun:
    return _cut(system.servers.database_proxy)


def delay_database(system: System, fault: PlannedFault) -> Begun:
    return _delay(system.servers.database_proxy, fault)


def swallow_database(system: System, fault: PlannedFault) -> Begun:
    seconds = system.lease_seconds * _between(0.5, 1.5, fault.dice)
    return _swallow(system.servers.database_proxy, seconds)


def nothing_more(system: System, fault: PlannedFault) -> Begun:
    """The plan has killed a producer of this round already."""
    return None


def send_twice(system: System, fault: PlannedFault) -> Begun:
    for clients in system.clients:
        clients.send_twice(fault.dice)
    return None


def delete_documents(system: System, fault: PlannedFault) -> Begun:
    for clients in system.clients:
        for key in fault.deleted:
            clients.delete(key)
    return None


def update_documents(system: System, fault: PlannedFault) -> Begun:
    for clients in system.clients:
        for tenant, spec in fault.updated:
            clients.update(tenant, spec)
    return None


FAULTS: dict[str, Begin] = {
    "pool child killed": kill_pool_child,
    "worker's process group killed": kill_worker_group,
    "worker's main process killed": kill_worker_main,
    "worker frozen past its lease": freeze_worker,
    "beat killed": kill_beat,
    "broker killed, data kept": kill_broker,
    "broker killed, data lost": kill_broker_and_data,
    "broker emptied": empty_broker,
    "database restarted at once": restart_database,
    "broker connections cut": cut_broker,
    "broker connections slow": delay_broker,
    "broker in a black hole": swallow_broker,
    "database connections cut": cut_database,
    "database connections slow": delay_database,
    "database in a black hole": swallow_database,
    "producer killed before commit": nothing_more,
    "producer killed before publish": nothing_more,
    "message delivered twice at once": send_twice,
    "documents deleted in flight": delete_documents,
    "documents updated in flight": update_documents,
}
