"""The app that `flower_deployed.py` has Flower run: no training, a line a round in the file `out`."""
import json
import time

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp

# Flower finds them in the source by these assignments.
client_app = ClientApp()
server_app = ServerApp()


@client_app.query()
def answer(message, context):
    logits = np.full((1000, 10), message.content["config"]["round"], dtype=np.float32)
    return Message(content=RecordDict({"arrays": ArrayRecord({"logits": Array(logits)})}), reply_to=message)


@server_app.main()
def main(grid, context):
    config = context.run_config
    while len(nodes := list(grid.get_node_ids())) < config["nodes"]:
        time.sleep(0.05)
    begun = time.perf_counter()
    with open(config["out"], "a") as out:
        for number in range(1, config["rounds"] + 1):
            content = RecordDict({"config": ConfigRecord({"round": number})})
            asked = [Message(content=content, message_type="query", dst_node_id=node) for node in nodes]
            total = np.zeros((1000, 10), dtype=np.float32)
            for reply in grid.send_and_receive(asked):
                total += reply.content["arrays"]["logits"].numpy()
            assert (total == number * len(nodes)).all()
            now = time.perf_counter()
            print(json.dumps({"round": number, "seconds": now - begun}), file=out, flush=True)
            begun = now
