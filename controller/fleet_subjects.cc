// What faults would hit, asked of their nodes.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/text.h"
#include "controller/fleet.h"

namespace firedrill {
namespace {

// More than a node takes to ask its servers.
constexpr absl::Duration kSubjectsWithin = absl::Seconds(6);

}  // namespace

void Fleet::AskSubjects(const std::vector<v1::PlannedFault>& faults,
                        std::function<void(std::vector<v1::Subject>)> done) {
  const auto asked = std::make_shared<Asked>();
  asked->subjects.resize(faults.size());
  asked->done = std::move(done);
  std::map<std::string, v1::ConnectResponse> questions;
  for (size_t i = 0; i < faults.size(); ++i) {
    const std::string& node = faults[i].node();
    asked->subjects[i].set_words(absl::StrCat("what ", faults[i].name(), " hits on ", node));
    asked->subjects[i].set_unsure(absl::StrCat("node ", node, " did not say what it is within ",
                                               firedrill::FormatDuration(kSubjectsWithin)));
    *questions[node].mutable_subjects_asked()->add_faults() = faults[i];
    asked->missing[node].second.push_back(i);
  }
  for (auto& [name, question] : questions) {
    const uint64_t number = ++questions_;
    asked->missing[name].first = number;
    question.mutable_subjects_asked()->set_number(number);
    const auto node = nodes_.find(name);
    if (node != nodes_.end() && node->second.link != nullptr) {
      node->second.link->Send(question);
    } else {
      asked->missing.erase(name);
    }
  }
  if (asked->missing.empty()) return asked->done(std::move(asked->subjects));
  asked_.push_back(asked);
  executor_.After(kSubjectsWithin, [this, alive = alive_, asked] {
    if (*alive) GiveUpAsking(asked);
  });
}

void Fleet::TakeSubjects(const std::string& node, const v1::SubjectsTold& told) {
  for (const std::shared_ptr<Asked>& asked : asked_) {
    const auto found = asked->missing.find(node);
    if (found == asked->missing.end() || found->second.first != told.number()) continue;
    const std::vector<size_t>& about = found->second.second;
    if (static_cast<size_t>(told.subjects_size()) == about.size()) {
      for (size_t i = 0; i < about.size(); ++i) {
        asked->subjects[about[i]] = told.subjects(static_cast<int>(i));
      }
    }
    asked->missing.erase(found);
    if (asked->missing.empty()) GiveUpAsking(std::shared_ptr<Asked>(asked));
    return;
  }
}

void Fleet::GiveUpAsking(const std::shared_ptr<Asked>& asked) {
  const auto found = std::find(asked_.begin(), asked_.end(), asked);
  if (found == asked_.end()) return;
  asked_.erase(found);
  asked->done(std::move(asked->subjects));
}

}  // namespace firedrill
