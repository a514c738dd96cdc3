// A fault by itself: what it asks for must mean something, and say it once.
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "base/server_error.h"
#include "base/time_proto.h"
#include "experiment/address.h"
#include "experiment/rules.h"
#include "experiment/vocabulary.h"

namespace firedrill {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

class FaultRules {
 public:
  // `path`: of the fault's kind.
  FaultRules(std::string path, Reporter* reporter) : path_(std::move(path)), reporter_(*reporter) {}

  template <typename Delay>
  void CheckShape(const Delay& delay) {
    if (delay.has_uniform()) CheckSpan(delay.uniform(), Of("uniform"));
    if (delay.has_pareto()) CheckSpan(delay.pareto(), Of("pareto"));
  }

  // Which protocol it is is known with the site; but some are no error's name of any.
  void CheckError(const v1::FailQueries& fault) {
    if (fault.error().empty() || reporter_.HasProblem(Of("error"))) return;
    for (const v1::Protocol protocol :
         {v1::PROTOCOL_POSTGRESQL, v1::PROTOCOL_MYSQL, v1::PROTOCOL_REDIS, v1::PROTOCOL_HTTP}) {
      if (WhyNoError(protocol, fault.error()).empty()) return;
    }
    reporter_.AtValue(Of("error"), absl::StrCat("'", fault.error(), "' is no server's error"),
                      "write a SQLSTATE such as \"57014\", a number of MySQL such as \"1205\", the "
                      "first word of a Redis error such as LOADING, or an HTTP status such as "
                      "\"503\"");
  }

  void CheckCut(const v1::FailQueries& fault) {
    if (fault.how_case() != v1::FailQueries::kCutAfter) return;
    if (reporter_.IsGiven(Of("moment"))) {
      reporter_.AtKey(Of("moment"), "'moment' does not go with 'cutAfter'",
                      "a cut comes in the midst of the answer, when the server has executed; leave "
                      "'moment' out, or name an 'error'");
    }
    if (reporter_.IsGiven(Of("message"))) {
      reporter_.AtKey(Of("message"), "'message' does not go with 'cutAfter'",
                      "who is cut off is told nothing; leave 'message' out, or name an 'error'");
    }
  }

  // What is there and says nothing would mean all requests. (Texts that are empty were met before.)
  void CheckMatch(const v1::QueryMatch& match) {
    for (const Key& key : KeysOf(match.GetDescriptor())) {
      const std::string where = JoinPath(Of("match"), key.name);
      if (key.field->is_repeated() && reporter_.IsGiven(where)) CheckList(match, key.field, where);
    }
  }

  // Where a port is chosen by the kernel, clients cannot be told which.
  void CheckListen(const std::string& text) {
    const absl::StatusOr<Address> address = ParseListenAddress(text);
    if (!address.ok() || address->port != 0 || reporter_.HasProblem(Of("listen"))) return;
    reporter_.AtValue(Of("listen"), "port 0 is any free port, and no client would know which",
                      "write the port that the clients come to: 127.0.0.1:6432");
  }

  void CheckRows(const v1::LockRows& rows) {
    if (!rows.statement().empty() && (!rows.column().empty() || !rows.values().empty())) {
      const std::string other = rows.column().empty() ? "values" : "column";
      reporter_.AtKey(Of(other),
                      absl::StrCat("'statement' and '", other, "' both say which rows are meant"),
                      "leave one of them out");
    } else if (!rows.column().empty() && rows.values().empty()) {
      reporter_.AtKey(Of("column"), "'column' needs the key 'values'",
                      "write what the column has in the rows that are meant: values: [\"1\"]");
    }
  }

 private:
  std::string Of(absl::string_view key) const { return JoinPath(path_, key); }

  template <typename Span>
  void CheckSpan(const Span& span, const std::string& path) {
    if (!span.has_min() || !span.has_max() || reporter_.HasProblem(path + ".max")) return;
    if (FromProto(span.min()) <= FromProto(span.max())) return;
    reporter_.AtValue(path + ".max", "'max' is shorter than 'min'", "exchange them");
  }

  void CheckList(const v1::QueryMatch& match, const FieldDescriptor* field,
                 const std::string& path) {
    const auto* reflection = match.GetReflection();
    const int size = reflection->FieldSize(match, field);
    for (int i = 0; i < size; ++i) {
      const std::string where = ItemPath(path, i);
      if (!reflection->GetRepeatedString(match, field, i).empty()) continue;
      if (reporter_.HasProblem(where)) continue;
      reporter_.AtValue(where, absl::StrCat("'", where, "' is empty"),
                        "write something, or leave the entry out");
    }
    // Entries that are wrong have a place, and are not in the list.
    if (size > 0 || reporter_.HasProblem(path) || reporter_.IsGiven(ItemPath(path, 0))) return;
    reporter_.AtValue(path, absl::StrCat("'", path, "' is an empty list"),
                      "write at least one entry, or leave the key out: then any is meant");
  }

  const std::string path_;
  Reporter& reporter_;
};

}  // namespace

const FieldDescriptor* KindOfFault(const v1::Fault& fault) {
  return fault.GetReflection()->GetOneofFieldDescriptor(
      fault, fault.GetDescriptor()->FindOneofByName("kind"));
}

void CheckFault(const v1::Fault& fault, const std::string& path, Reporter* reporter) {
  const FieldDescriptor* kind = KindOfFault(fault);
  if (kind == nullptr) return;
  FaultRules rules(JoinPath(path, KeyName(kind)), reporter);
  const Message& message = fault.GetReflection()->GetMessage(fault, kind);
  if (const auto* listen = kind->message_type()->FindFieldByName("listen")) {
    rules.CheckListen(message.GetReflection()->GetString(message, listen));
  }
  if (fault.has_delay_queries()) {
    rules.CheckShape(fault.delay_queries());
    rules.CheckMatch(fault.delay_queries().match());
  }
  if (fault.has_delay_bytes()) rules.CheckShape(fault.delay_bytes());
  if (fault.has_fail_queries()) {
    rules.CheckError(fault.fail_queries());
    rules.CheckCut(fault.fail_queries());
    rules.CheckMatch(fault.fail_queries().match());
  }
  if (fault.has_lock_rows()) rules.CheckRows(fault.lock_rows());
}

}  // namespace firedrill
