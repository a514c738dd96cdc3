// gRPC's own services.
#include "controller/rpc/health.h"

#include <grpc/health/v1/health.pb.h>
#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/health_check_service_interface.h>

namespace firedrill {

void OfferHealthAndReflection() {
  grpc::EnableDefaultHealthCheckService(true);
  grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  // Linked in, so that reflection finds it.
  (void)grpc::health::v1::HealthCheckRequest::descriptor();
}

void SetServing(grpc::Server& server, bool serving) {
  if (server.GetHealthCheckService() == nullptr) return;
  for (const char* service :
       {"", "firedrill.v1.ControllerService", "firedrill.v1.InjectorService"}) {
    server.GetHealthCheckService()->SetServingStatus(service, serving);
  }
}

}  // namespace firedrill
