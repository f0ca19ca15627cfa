// graphile-worker on PostgreSQL. `node graphile_driver.cjs worker CONCURRENCY` runs a worker, `prepare 0` makes its tables.
"use strict";

const { Logger, makeWorkerUtils, run } = require("graphile-worker");
const { Pool } = require("pg");
const { SLEEP_MS, main } = require("./common.cjs");

const quiet = new Logger(() => () => {});
const pgPool = new Pool({ connectionString: process.env.BENCH_POSTGRES, max: 20 });
const taskList = {
  noop: async () => {},
  sleep: () => new Promise((resolve) => setTimeout(resolve, SLEEP_MS)),
};
const BULK = `SELECT graphile_worker.add_jobs(ARRAY(
  SELECT json_populate_record(NULL::graphile_worker.job_spec, '{"identifier": "noop"}') FROM generate_series(1, $1)))`;
const LEFT = "SELECT 1 FROM graphile_worker.jobs WHERE id = $1";

async function drive() {
  const utils = await makeWorkerUtils({ pgPool, logger: quiet });
  if (process.argv[2] === "prepare") await utils.migrate();
  else
    await main({
      put: () => utils.addJob("noop", {}),
      putMany: (size) => pgPool.query(BULK, [size]),
      ask: async () => {
        // A job that is done is deleted; there are no results to wait for.
        const job = await utils.addJob("noop", {});
        while ((await pgPool.query(LEFT, [job.id])).rowCount) await new Promise((resolve) => setTimeout(resolve, 2));
      },
      sleep: () => utils.addJob("sleep", {}),
    });
  process.exit(0);
}

if (process.argv[2] === "worker") {
  const concurrency = Number(process.argv[3]);
  run({ pgPool, logger: quiet, concurrency, taskList, noHandleSignals: false }).then((runner) => runner.promise);
} else drive();
