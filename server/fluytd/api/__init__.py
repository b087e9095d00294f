"""The edge: the only package that imports grpc and the generated messages. It converts and calls services.

`server.py` assembles, `calls.py` wraps every RPC, `<noun>_service.py` holds RPC bodies, `convert/` the conversions,
`status.py` builds every google.rpc.Status. Nothing imports this package but the composition root.
"""
