-- wrk with one fixed request and an exact report, for bench/run. `wrk -H ... URL -- METHOD BODY_BYTES`.

function init(arguments)
  wrk.method = arguments[1]
  local bytes = tonumber(arguments[2])
  if bytes > 0 then wrk.body = string.rep("x", bytes) end
end

function done(summary, _, _)
  local e = summary.errors
  io.write(string.format("BENCH requests=%d bytes=%d microseconds=%d failed=%d\n", summary.requests, summary.bytes,
    summary.duration, e.connect + e.read + e.write + e.status + e.timeout))
end
