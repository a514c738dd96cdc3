// Several servers that say the same, as one: what alerts they hold, and whether anyone of them
// sees. Pure.
#pragma once

#include <cstddef>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "controller/alerts/fold.h"
#include "firedrill/v1/run.pb.h"

namespace firedrill {

// An alert is as far as the one says who has it furthest: it fires as soon as one of them says so,
// and has ended when none holds it any more. What the others say later is nothing new.
class Replicas {
 public:
  explicit Replicas(size_t members) : members_(members) {}

  // What has changed at one of them, as what has changed for all.
  AlertChanges Feed(size_t member, const AlertChanges& changes);
  // It has fallen silent while another one answers: its word counts no more. What only it held has
  // ended as far as anyone can tell, and nobody saw how (rule_gone). `now`: by the clock of those
  // servers.
  AlertChanges Lapse(size_t member, absl::Time now);

 private:
  struct Instance {
    // By member.
    std::vector<std::optional<v1::AlertTransition>> words;
    v1::AlertTransition told;
    bool was_told = false;
  };
  void Weigh(Instance& instance, const EndedAlert* ended, bool new_life, AlertChanges& out);

  const size_t members_;
  std::map<std::string, Instance> instances_;
};

// Who sees nothing since when. One member that sees nothing is told of as covered while another one
// sees; when none does, that is a gap of all.
class GapBook {
 public:
  // `all`: the source of a gap in which nobody sees. A single member is all there is.
  GapBook(std::string all, std::vector<std::string> members);

  // `about`: what it does not see; empty where it does not answer at all. Told once.
  std::vector<v1::MonitorGap> Open(size_t member, const std::string& about, absl::Time from,
                                   const std::string& reason, absl::Time now);
  std::vector<v1::MonitorGap> Close(size_t member, const std::string& about, absl::Time now);

 private:
  struct Blindness {
    absl::Time from;
    std::string reason;
  };
  using Blindnesses = std::map<std::string, Blindness>;
  // The later begin of all members' blindness; nothing while one of them sees.
  std::optional<Blindness> All(const std::string& about) const;
  void Update(absl::Time now, std::vector<v1::MonitorGap>& told);

  const std::string all_;
  const std::vector<std::string> names_;
  std::vector<Blindnesses> members_;
  std::map<std::string, absl::Time> open_;
};

}  // namespace firedrill
