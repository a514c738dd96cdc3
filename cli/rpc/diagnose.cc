// Asks a controller how it is.
#include "cli/rpc/diagnose.h"

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/time_proto.h"
#include "cli/rpc/ask.h"
#include "controller/diagnosis.h"
#include "identity/identity.h"

namespace firedrill {
namespace {

// The controller waits for others.
constexpr absl::Duration kDiagnosedWithin = absl::Seconds(60);

}  // namespace

std::vector<v1::Diagnosis> AskDiagnoses(const Places& places) {
  std::vector<v1::Diagnosis> all;
  if (!absl::StartsWith(places.controller, "unix:") && !places.identity.empty()) {
    const absl::StatusOr<std::string> pem = ReadPem(IdentityOf(places.identity).certificate);
    const absl::StatusOr<Certificate> own =
        pem.ok() ? ReadCertificate(*pem) : absl::StatusOr<Certificate>(pem.status());
    all.push_back(own.ok()
                      ? DiagnoseExpiry("your certificate", own->not_before, own->not_after,
                                       absl::Now(), "ask for a new one (firedrill pki issue)")
                      : Failure("your certificate", own.status().message(), "correct --identity"));
  }
  v1::DiagnoseResponse response;
  const absl::Status status = Ask(
      places,
      [&](auto& stub, grpc::ClientContext& context) {
        return stub.Diagnose(&context, v1::DiagnoseRequest(), &response);
      },
      kDiagnosedWithin);
  if (!status.ok()) {
    // Of what is wrong on this side the message says what to do.
    all.push_back(
        Failure("controller", status.message(),
                absl::IsUnavailable(status) ? "see its log, and that of its service manager" : ""));
    return all;
  }
  all.push_back(Fine("controller", absl::StrCat(places.controller, " answers")));
  for (v1::Diagnosis& diagnosis : *response.mutable_diagnoses())
    all.push_back(std::move(diagnosis));
  return all;
}

}  // namespace firedrill
