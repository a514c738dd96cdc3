// gRPC's own services: whether this controller serves, and what can be asked of it.
#pragma once

#include <grpcpp/grpcpp.h>

namespace firedrill {

// Once, before the first server is built: each has both.
void OfferHealthAndReflection();

// What `grpc.health.v1.Health` answers from now on, for the whole server and each service.
void SetServing(grpc::Server& server, bool serving);

}  // namespace firedrill
