// What can be broken: read from the protos.
#include <cstdio>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "cli/commands.h"
#include "experiment/vocabulary.h"
#include "firedrill/v1/fault.pb.h"
#include "firedrill/v1/options.pb.h"

namespace firedrill {
namespace {

std::string EndingText(v1::Ending ending) {
  switch (ending) {
    case v1::ENDING_ONE_SHOT:
      return "happens once";
    case v1::ENDING_DIES_WITH_PROCESS:
      return "dies with the injector's process";
    case v1::ENDING_EXPIRES:
      return "expires by itself";
    case v1::ENDING_JOURNALLED:
      return "journalled, and undone by injector or reaper";
    default:
      return "";
  }
}

std::string FaultsText() {
  std::string text;
  const google::protobuf::OneofDescriptor* kinds = v1::Fault::descriptor()->FindOneofByName("kind");
  for (int i = 0; i < kinds->field_count(); ++i) {
    const google::protobuf::FieldDescriptor* field = kinds->field(i);
    const v1::KindRule& rule = field->message_type()->options().GetExtension(v1::kind);
    absl::StrAppend(&text, field->json_name(), "\n  ", rule.summary(),
                    "\n  ends: ", EndingText(rule.ending()), ". ", rule.ends(), "\n");
    for (const std::string& example : ExamplesOf(rule)) {
      absl::StrAppend(&text, "  example:\n");
      const std::vector<std::string> lines = absl::StrSplit(example, '\n', absl::SkipEmpty());
      for (const std::string& line : lines) absl::StrAppend(&text, "    ", line, "\n");
    }
    text += "\n";
  }
  absl::StrAppend(&text, "Every key of a fault: firedrill explain experiment.spec.faults.<kind>\n");
  return text;
}

}  // namespace

int FaultsCommand() {
  std::fputs(FaultsText().c_str(), stdout);
  return 0;
}

}  // namespace firedrill
