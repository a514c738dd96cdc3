// What a person sees of one fault: its own lines and its counters, and nothing of gates,
// expectations and verdicts, which it has not.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "cli/inject_words.h"
#include "cli/screen.h"
#include "controller/run_steps.h"
#include "firedrill/v1/run.pb.h"

namespace firedrill {

class InjectView {
 public:
  // Both must outlive it.
  InjectView(const InjectOptions& options, Screen& screen) : options_(options), screen_(screen) {}

  void Event(const v1::Event& event);
  // Whether the run's own line of it is shown, too.
  static bool Shows(const v1::Event& event);
  void Tick();
  // Says how it ended; returns the exit code, which is `code` unless the words were wrong.
  int Judged(const std::vector<v1::Event>& history, const v1::Judgement& judgement, int code);

 private:
  void Fault(const v1::FaultReport& report, absl::Time at);
  std::string Ended(const v1::Judgement& judgement, int code) const;
  int SayHowItEnded(const std::vector<FaultCourse>& faults, const v1::Judgement& judgement,
                    int code);
  void SayWhatToUndo(const FaultCourse& fault);
  void SayWhyEarly(const std::vector<FaultCourse>& faults, const std::string& reason,
                   const std::string& mend);
  void SayWhatWasTouched(absl::Time end, bool early);
  void Say(const std::string& line);

  const InjectOptions& options_;
  Screen& screen_;
  const absl::Time since_ = absl::Now();
  bool one_shot_ = false;
  bool on_ = false;
  bool over_ = false;
  bool refused_ = false;
  bool senseless_ = false;
  bool forbidden_ = false;
  bool misspelt_ = false;
  std::string counters_;
  // What the look after its end saw, where it tells.
  std::string after_;
  absl::Time counted_at_;
  // Taken when the fault was let go: nothing is missing.
  bool counted_last_ = false;
  std::optional<absl::Time> ended_at_;
  std::string said_;
  absl::Time said_at_ = absl::InfinitePast();
};

}  // namespace firedrill
