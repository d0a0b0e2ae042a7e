"""HTTP/JSON in front of the gRPC services, in the manner of grpc-gateway.

Of the service it knows the protobuf descriptors and how to call a method (``caller``), and no more. Each
dialect has a folder of its own; what they share is here.
"""
