# Sidekiq on Redis, without results. The worker loads this file: `sidekiq -r ./sidekiq_driver.rb -q bench`.
# `ruby sidekiq_driver.rb VERB COUNT` does what common.py describes.
require "json"
require "logger"
require "redis"
require "sidekiq"

ADDRESS = "#{ENV.fetch("BENCH_REDIS")}/0"
WARM = 20
BATCH = 500
Sidekiq.configure_server { |config| config.redis = { url: ADDRESS } }
Sidekiq.configure_client { |config| config.redis = { url: ADDRESS } }
Sidekiq.logger.level = Logger::WARN

class Noop
  include Sidekiq::Worker
  sidekiq_options queue: "bench"

  def perform; end
end

# The answer of a round trip: Sidekiq itself has none.
class Answer
  include Sidekiq::Worker
  sidekiq_options queue: "bench"

  def perform(list)
    Sidekiq.redis { |redis| redis.lpush(list, 1) }
  end
end

class Sleep
  include Sidekiq::Worker
  sidekiq_options queue: "bench"

  def perform
    sleep 0.05
  end
end

def now
  Process.clock_gettime(Process::CLOCK_MONOTONIC)
end

def ask(redis)
  start = now
  Answer.perform_async("answer")
  redis.brpop("answer", timeout: 60)
  (now - start) * 1000
end

def put_many(count)
  Noop.perform_bulk(Array.new(count) { [] }, batch_size: BATCH)
end

def put(count)
  count.times { Noop.perform_async }
end

def measured
  start = now
  cpu = Process.clock_gettime(Process::CLOCK_PROCESS_CPUTIME_ID)
  yield
  { seconds: now - start, cpu_seconds: Process.clock_gettime(Process::CLOCK_PROCESS_CPUTIME_ID) - cpu }
end

def drive(verb, count)
  case verb
  when "ask"
    redis = Redis.new(url: ADDRESS)
    WARM.times { ask(redis) }
    { ms: Array.new(count) { ask(redis) } }
  when "sleep"
    measured { count.times { Sleep.perform_async } }
  when "one"
    put(WARM)
    measured { put(count) }
  else
    put_many(WARM)
    measured { put_many(count) }
  end
end

puts JSON.generate(drive(ARGV[0], ARGV[1].to_i)) if $PROGRAM_NAME == __FILE__
