"""What stands between the wire and an RPC's body, one concern a file.

They wrap the bodies once, when the server is assembled, instead of running as grpc interceptors: a start has a budget
of a few milliseconds, and a grpc.aio interceptor costs a coroutine and a handler look-up on every call.
"""
