-- wrk with many requests and an exact report, for bench/run. `wrk ... URL -- FILE`: each line of FILE is a `HOST PATH`;
-- the lines are taken in turn.
local requests, turn = {}, 0

function init(arguments)
  for line in io.lines(arguments[1]) do
    local host, path = line:match("(%S+) (%S+)")
    requests[#requests + 1] = wrk.format("GET", path, { Host = host })
  end
end

function request()
  turn = turn % #requests + 1
  return requests[turn]
end

function done(summary, _, _)
  local e = summary.errors
  io.write(string.format("BENCH requests=%d bytes=%d microseconds=%d failed=%d\n", summary.requests, summary.bytes,
    summary.duration, e.connect + e.read + e.write + e.status + e.timeout))
end
