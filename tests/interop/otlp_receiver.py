"""An OTLP receiver by OpenTelemetry's own Python definitions: `serve GRPC_PORT HTTP_PORT FILE` writes each span as a line of JSON,
`tree FILE TRACE` prints the spans of a trace, children below their parents."""

import json
import sys
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as messages
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as service
from opentelemetry.proto.trace.v1 import trace_pb2


def value(any_value):
    return getattr(any_value, any_value.WhichOneof("value"))


def attributes(pairs):
    return {pair.key: value(pair.value) for pair in pairs}


def write(request, file, over):
    for of_resource in request.resource_spans:
        resource = attributes(of_resource.resource.attributes)
        for span in (span for scope in of_resource.scope_spans for span in scope.spans):
            line = {
                "over": over,
                "node": resource["towpath.node"],
                "service": resource["service.name"],
                "trace": span.trace_id.hex(),
                "span": span.span_id.hex(),
                "parent": span.parent_span_id.hex(),
                "name": span.name,
                "kind": trace_pb2.Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
                "start": span.start_time_unix_nano,
                "end": span.end_time_unix_nano,
                "status": trace_pb2.Status.StatusCode.Name(span.status.code).removeprefix("STATUS_CODE_"),
                "attributes": attributes(span.attributes),
            }
            file.write(json.dumps(line) + "\n")
    file.flush()


def serve(grpc_port, http_port, path):
    file = open(path, "a")

    class Grpc(service.TraceServiceServicer):
        def Export(self, request, context):
            write(request, file, "grpc")
            return messages.ExportTraceServiceResponse()

    class Http(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            write(messages.ExportTraceServiceRequest.FromString(body), file, "http")
            self.send_response(200 if self.path == "/v1/traces" else 404)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    server = grpc.server(futures.ThreadPoolExecutor(max_workers=4))
    service.add_TraceServiceServicer_to_server(Grpc(), server)
    server.add_insecure_port(f"127.0.0.1:{grpc_port}")
    server.start()
    ThreadingHTTPServer(("127.0.0.1", int(http_port)), Http).serve_forever()


def tree(path, trace):
    spans = [json.loads(line) for line in open(path)]
    spans = sorted((span for span in spans if span["trace"] == trace), key=lambda span: span["start"])
    numbers = {span["span"] for span in spans}

    def show(span, depth):
        told = span["attributes"]
        code = told.get("http.response.status_code", "-")
        print("  " * depth + f"{span['node']} {span['kind']} {span['name']} {code} {span['status']} by {span['over']}")
        for child in spans:
            if child["parent"] == span["span"]:
                assert span["start"] <= child["start"] and child["end"] >= child["start"], (span, child)
                show(child, depth + 1)

    for span in spans:
        if span["parent"] not in numbers:
            print(f"below {span['parent'] or 'nothing'}:")
            show(span, 0)


if sys.argv[1] == "serve":
    serve(*sys.argv[2:5])
else:
    tree(*sys.argv[2:4])
