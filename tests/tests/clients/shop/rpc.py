"""`shop.Echo` in gRPC: bytes without a schema."""

import grpc
from arrivals import Digest, note


class Echo(grpc.GenericRpcHandler):
    """`Unary` and the bidirectional `Stream` say back what they are told; `Upload` digests a stream, `Download` sends back what
    `Upload` got."""

    kept = []

    def service(self, details):
        right = dict(details.invocation_metadata).get("x-credential") == "right"
        word = b"right " if right else b"wrong "

        async def unary(request, _context):
            return word + request

        async def both(requests, _context):
            async for request in requests:
                yield word + request

        async def upload(requests, _context):
            Echo.kept = [piece async for piece in requests]
            digest = Digest(*Echo.kept)
            note(details.method, digest)
            return word + str(digest.length).encode()

        async def download(_request, _context):
            for piece in Echo.kept:
                yield piece

        return {
            "/shop.Echo/Unary": grpc.unary_unary_rpc_method_handler(unary),
            "/shop.Echo/Stream": grpc.stream_stream_rpc_method_handler(both),
            "/shop.Echo/Upload": grpc.stream_unary_rpc_method_handler(upload),
            "/shop.Echo/Download": grpc.unary_stream_rpc_method_handler(download),
        }.get(details.method)


async def serve(address):
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Echo(),))
    server.add_insecure_port(address)
    await server.start()
    return server
