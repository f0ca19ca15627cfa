// What each Node driver does with its library; the verbs are those of common.py.
"use strict";

const WARM = 20, BATCH = 500, CALLERS = 20;
const [verb, count] = [process.argv[2], Number(process.argv[3])];

async function repeat(call, times) {
  const taken = [];
  for (let done = 0; done < times; done++) {
    const start = performance.now();
    await call();
    taken.push(performance.now() - start);
  }
  return taken;
}

async function inBatches(call) {
  for (let done = 0; done < count; done += BATCH) await call(Math.min(BATCH, count - done));
}

exports.SLEEP_MS = 50;
exports.redis = (database) => {
  const url = new URL(process.env.BENCH_REDIS);
  return { host: url.hostname, port: Number(url.port), db: database, maxRetriesPerRequest: null };
};

exports.main = async ({ put, putMany, ask, sleep }) => {
  const answer = {};
  await (verb === "ask" ? repeat(ask, WARM) : verb === "sleep" ? undefined : verb === "one" ? repeat(put, WARM) : putMany(WARM));
  const [start, cpu] = [performance.now(), process.cpuUsage()];
  if (verb === "ask") answer.ms = await repeat(ask, count);
  else if (verb === "sleep") await repeat(sleep, count);
  else if (verb === "bulk" || verb === "fill") await inBatches(putMany);
  else if (verb === "crowd") {
    const parts = await Promise.all(Array.from({ length: CALLERS }, () => repeat(put, Math.floor(count / CALLERS))));
    answer.ms = parts.flat();
  } else await repeat(put, count);
  const used = process.cpuUsage(cpu);
  answer.seconds = (performance.now() - start) / 1000;
  answer.cpu_seconds = (used.user + used.system) / 1e6;
  console.log(JSON.stringify(answer));
};
