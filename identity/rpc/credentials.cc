// gRPC's TLS credentials, with certificates that can be replaced while they are used.
#include "identity/rpc/credentials.h"

#include <grpcpp/security/tls_certificate_provider.h>
#include <grpcpp/security/tls_credentials_options.h>

#include <cstdlib>

namespace firedrill {
namespace {

using grpc::experimental::FileWatcherCertificateProvider;

constexpr unsigned kReadEverySeconds = 1;

std::shared_ptr<FileWatcherCertificateProvider> Watched(const IdentityFiles& files) {
  return std::make_shared<FileWatcherCertificateProvider>(files.key, files.certificate,
                                                          files.authority, kReadEverySeconds);
}

void WatchAll(grpc::experimental::TlsCredentialsOptions& options) {
  options.watch_root_certs();
  options.watch_identity_key_cert_pairs();
}

}  // namespace

void PrepareTls() {
  setenv("GRPC_SSL_CIPHER_SUITES", "PSK-AES128-GCM-SHA256", 1);
  setenv("GRPC_VERBOSITY", "NONE", 0);
}

std::shared_ptr<grpc::ServerCredentials> ServerTls(const IdentityFiles& files,
                                                   std::shared_ptr<Gate> gate) {
  grpc::experimental::TlsServerCredentialsOptions options(Watched(files));
  WatchAll(options);
  options.set_cert_request_type(GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);
  auto credentials = grpc::experimental::TlsServerCredentials(options);
  credentials->SetAuthMetadataProcessor(std::move(gate));
  return credentials;
}

std::shared_ptr<grpc::ChannelCredentials> ChannelTls(const IdentityFiles& files) {
  grpc::experimental::TlsChannelCredentialsOptions options;
  options.set_certificate_provider(Watched(files));
  WatchAll(options);
  return grpc::experimental::TlsCredentials(options);
}

}  // namespace firedrill
