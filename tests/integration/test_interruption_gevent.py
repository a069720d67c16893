"""Greenlets are ended one by one, waiting or blocking the hub; each script is a process patched."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

GEVENT = """
from gevent import monkey; monkey.patch_all()
import gevent, random, socket, threading, time
from shared.errors import Permanent
from worker.delivery.interruption import interruptible

class DeadlinePassed(Permanent):
    "The work took too long."

def in_real_thread(function, *arguments):
    monkey.get_original("_thread", "start_new_thread")(function, arguments)

pause = monkey.get_original("time", "sleep")
neighbours = []

def neighbour():
    while True:
        gevent.sleep(0.001)
        neighbours.append(1)

def ending(work, from_thread=True, **options):
    def interrupt(flow):
        for _ in range(100):
            (pause if from_thread else gevent.sleep)(0.1)
            flow.interrupt(DeadlinePassed("in time"))
    try:
        with interruptible() as flow:
            if from_thread:
                in_real_thread(interrupt, flow)
            else:
                gevent.spawn(interrupt, flow)
            work()
    except DeadlinePassed as error:
        return str(error)

def check(work, **options):
    greenlet = gevent.spawn(ending, work, **options)
    assert greenlet.get(timeout=300) == "in time", work
    before = len(neighbours)
    gevent.sleep(0.1)
    assert len(neighbours) > before and not quiet.dead

quiet = gevent.spawn(neighbour)
gevent.sleep(0)
"""

GREEN_WORK = {
    "waits": "check(lambda: gevent.sleep(600))",
    "reads a socket": "a, b = socket.socketpair(); check(lambda: a.recv(1))",
    "waits for a lock": "lock = threading.Lock(); lock.acquire(); check(lock.acquire)",
    "is ended by a greenlet": "check(lambda: gevent.sleep(600), from_thread=False)",
    "computes and blocks the hub": "def work():\n    while True: pass\ncheck(work)",
    "blocks the hub in the system": "check(lambda: pause(600))",
    "computes and yields": "def work():\n    while True: gevent.sleep(0)\ncheck(work)",
}


def run_script(script: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


def test_a_greenlet_is_ended_wherever_it_waits_or_computes() -> None:
    run_script(GEVENT + "\n".join(GREEN_WORK.values()) + "\nprint('done')")


def test_only_the_greenlet_that_is_meant_is_hit() -> None:
    """Many greenlets compute and wait in turn; a real thread interrupts them around their exits."""
    run_script(
        GEVENT
        + """
generator = random.Random(7)
running, ended, endings = [], [], {"interrupted": 0, "completed": 0}

def interrupt_whatever_runs():
    while not ended:
        for flow in list(running):
            if generator.random() < 0.3:
                flow.interrupt(DeadlinePassed(str(id(flow))))
        pause(0.0002)

def rounds():
    # Under load the interrupter gets few turns: as many rounds as that takes.
    while min(endings.values()) < 50 or sum(endings.values()) < 1500:
        try:
            with interruptible() as flow:
                running.append(flow)
                for _ in range(generator.randrange(300)):
                    str(flow)
                gevent.sleep(generator.random() / 1000)
            endings["completed"] += 1
        except DeadlinePassed as error:
            assert str(error) == str(id(flow))
            endings["interrupted"] += 1
        running.remove(flow)
        for number in range(50):
            str(number)
        gevent.sleep(0)

in_real_thread(interrupt_whatever_runs)
gevent.joinall([gevent.spawn(rounds) for _ in range(10)], raise_error=True, timeout=300)
ended.append(1)
assert min(endings.values()) >= 50, endings
assert not quiet.dead
print("done")
"""
    )
