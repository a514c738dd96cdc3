// What the parts share that put a run's findings into sentences. Nobody but report_*findings.cc
// includes this.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "controller/report_facts.h"
#include "controller/words.h"

namespace firedrill::reporting {

struct Teller {
  const RunFacts& facts;
  const std::vector<v1::Event>& history;
  const v1::Judgement& judgement;
  const v1::ExperimentSpec& spec;
  std::vector<RunFinding>& out;

  std::string At(absl::Time time) const { return Signed(time - facts.zero); }
  void Add(absl::string_view code, std::string text, std::string more = "",
           bool in_short = true) const {
    out.push_back({std::string(code), std::move(text), std::move(more), in_short});
  }
};

// ---- the parts
void TellPages(const Teller& tell);
void TellRemedies(const Teller& tell);

}  // namespace firedrill::reporting
