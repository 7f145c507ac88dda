"""How the Flower peers are run: its simulation engine, one core a client, no words about anything but rounds."""
import os
import pathlib
import sys

# Ray's workers find the modules beside this file by it.
os.environ["PYTHONPATH"] = os.pathsep.join(
    filter(None, [str(pathlib.Path(__file__).resolve().parent), os.environ.get("PYTHONPATH")])
)
os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import logging
import time

import torch
from flwr.app import Message
from flwr.serverapp import ServerApp
from flwr.simulation import run_simulation


def simulate(main, client_app, nodes, cores):
    """Runs `main(grid)` as the server of `nodes` clients; ends with a failure where it failed."""
    logging.getLogger("flwr").setLevel(logging.ERROR)
    server_app, done = ServerApp(), []

    @server_app.main()
    def server(grid, context):
        torch.set_num_threads(cores)
        main(grid)
        done.append(True)

    run_simulation(
        server_app=server_app,
        client_app=client_app,
        num_supernodes=nodes,
        backend_config={
            "init_args": {"num_cpus": cores, "include_dashboard": False, "log_to_driver": False},
            "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
        },
    )
    if not done:
        sys.exit("the server did not finish")


def nodes(grid, count):
    """So many nodes; waits until they have come."""
    while len(found := sorted(grid.get_node_ids())) < count:
        time.sleep(0.05)
    return found[:count]


def exchange(grid, contents, kind="train"):
    """Sends each of `contents` to a node of its own; what they answer."""
    messages = [
        Message(content=content, message_type=kind, dst_node_id=node)
        for content, node in zip(contents, nodes(grid, len(contents)))
    ]
    replies = list(grid.send_and_receive(messages))
    failed = [reply for reply in replies if reply.has_error()]
    if failed or len(replies) != len(messages):
        raise RuntimeError(f"{len(failed)} clients failed, the first with {failed[0].error if failed else 'no answer'}")
    return [reply.content for reply in replies]
