"""The service event_store.client.gossip.Gossip of a node that leads and has no others."""

from typing import Any, Final

import grpc
from kurrentdbclient.protos.v1 import gossip_pb2, shared_pb2

from tests.kurrentdb.faults import Call, Faults
from tests.kurrentdb.points import reach

NAME: Final = "event_store.client.gossip.Gossip"


def gossip_handler(host: str, port: int, faults: Faults) -> grpc.GenericRpcHandler:
    end_point = gossip_pb2.EndPoint(address=host, port=port)
    member = gossip_pb2.MemberInfo(state=gossip_pb2.MemberInfo.Leader, is_alive=True, http_end_point=end_point)

    async def read(_: Any, context: Any) -> Any:
        with faults.opened("gossip"):
            await reach(faults, "asked", Call("gossip", "", context))
            return gossip_pb2.ClusterInfo(members=[member])

    serialize = gossip_pb2.ClusterInfo.SerializeToString
    method = grpc.unary_unary_rpc_method_handler(read, shared_pb2.Empty.FromString, serialize)
    return grpc.method_handlers_generic_handler(NAME, {"Read": method})
