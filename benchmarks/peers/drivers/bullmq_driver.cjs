// BullMQ on Redis. `node bullmq_driver.cjs worker CONCURRENCY` runs a worker.
"use strict";

const { Queue, QueueEvents, Worker } = require("bullmq");
const { SLEEP_MS, main, redis } = require("./common.cjs");

async function work(job) {
  if (job.name === "sleep") await new Promise((resolve) => setTimeout(resolve, SLEEP_MS));
  return 1;
}

async function drive() {
  const queue = new Queue("bench", { connection: redis(0) });
  const events = process.argv[2] === "ask" ? new QueueEvents("bench", { connection: redis(0) }) : null;
  if (events) await events.waitUntilReady();
  await main({
    put: () => queue.add("noop", {}),
    putMany: (size) => queue.addBulk(Array.from({ length: size }, () => ({ name: "noop", data: {} }))),
    ask: async () => (await queue.add("noop", {})).waitUntilFinished(events, 60_000),
    sleep: () => queue.add("sleep", {}),
  });
  process.exit(0);
}

if (process.argv[2] === "worker") new Worker("bench", work, { connection: redis(0), concurrency: Number(process.argv[3]) });
else drive();
