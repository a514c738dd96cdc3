// TLS with certificates on both ends, as gRPC wants it.
#pragma once

#include <grpcpp/security/credentials.h>
#include <grpcpp/security/server_credentials.h>

#include <memory>

#include "identity/identity.h"
#include "identity/rpc/gate.h"

namespace firedrill {

// Call it first in main(), as gRPC reads this when it starts. gRPC 1.51 has no way to ask for TLS
// 1.3 alone; a list of ciphers that TLS 1.2 has no key for leaves it nothing else. What gRPC itself
// would print of each failed handshake is left out, unless $GRPC_VERBOSITY asks for it.
void PrepareTls();

// Both read their files anew every second. The server demands a certificate of the authority, and
// asks the gate about each call.
std::shared_ptr<grpc::ServerCredentials> ServerTls(const IdentityFiles& files,
                                                   std::shared_ptr<Gate> gate);
// The host that was dialled must be one of the server's certificate.
std::shared_ptr<grpc::ChannelCredentials> ChannelTls(const IdentityFiles& files);

}  // namespace firedrill
