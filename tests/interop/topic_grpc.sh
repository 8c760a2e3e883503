# Python's grpcio on both sides of towpath: the checks are in grpc_client.py.

topic_grpc() {
  absorb grpc "$python" "$here/grpc_client.py" "127.0.0.1:$proxy_port" "$socket"
}
