"""
The yardstick: the loop that everybody writes first, with aiokafka, json and qdrant-client.

    python -m tests.benchmarks.plain BOOTSTRAP TOPIC URL COLLECTION COUNT

Prints the CPU seconds and the wall seconds of the loop, without start-up.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

from aiokafka import AIOKafkaConsumer
from qdrant_client import AsyncQdrantClient, models


async def main(bootstrap: str, topic: str, url: str, collection: str, count: int) -> None:
    port = int(url.rsplit(":", 1)[1])
    client = AsyncQdrantClient(
        host="127.0.0.1", grpc_port=port, prefer_grpc=True, check_compatibility=False
    )
    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=bootstrap,
        auto_offset_reset="earliest",
        group_id=None,
        max_partition_fetch_bytes=8 << 20,
    )
    await consumer.start()
    cpu, wall, done = time.process_time(), time.perf_counter(), 0
    try:
        while done < count:
            for records in (await consumer.getmany(timeout_ms=1000, max_records=128)).values():
                points = []
                for record in records:
                    event = json.loads(record.value)
                    points.append(
                        models.PointStruct(
                            id=event["id"],
                            vector=event["vectors"][""],
                            payload=event["payload"],
                        )
                    )
                await client.upsert(collection, points, wait=True)
                done += len(records)
    finally:
        seconds = (time.process_time() - cpu, time.perf_counter() - wall)
        await consumer.stop()
        await client.close()
    print(json.dumps({"cpu_s": seconds[0], "wall_s": seconds[1], "count": done}))


if __name__ == "__main__":
    _, *words, count = sys.argv
    asyncio.run(main(words[0], words[1], words[2], words[3], int(count)))
