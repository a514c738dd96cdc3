// lose_index, but for what depends on the server: which plans are looked at and when, and what is
// said of them, is the same whatever the server speaks.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "injector/fault.h"

namespace firedrill {

enum class IndexState { kUsable, kLost, kGone };

// What the server does with the statement.
struct IndexPlan {
  bool uses_index = false;
  // How the table is read: "Index Scan using users_email_idx", "ref using users_email_idx", "ALL".
  std::string read_by;
  // What the server expects of it: its cost, or rows.
  double weight = 0;
};

// A session in which the statement is prepared. Opened before the fault, it stands for the pooled
// sessions of an application; opened anew, for one that has just connected.
class PlanSession {
 public:
  virtual ~PlanSession() = default;
  virtual bool usable() const = 0;
  // Where the server has refused to prepare the statement: that, see IndexServer::Refuses().
  virtual absl::StatusOr<IndexPlan> Explain(const Patience& patience) = 0;
  // Whatever has become of the statement.
  virtual absl::StatusOr<IndexState> Look(const Patience& patience) = 0;
};

// The server of one index. One call at a time; what blocks ends with its patience.
class IndexServer {
 public:
  // How it is said of this kind of server.
  struct Words {
    const char* undo_kind;
    const char* planner;
    // Of the index: "lost", "usable", "not usable", and what somebody else may have done to it.
    const char* lost;
    const char* usable;
    const char* not_usable;
    const char* gone;
    // IndexPlan::weight.
    const char* weight;
  };
  virtual ~IndexServer() = default;
  virtual const Words& words() const = 0;
  // As in the definition, until Open() has found it.
  virtual std::string Name() const = 0;
  virtual absl::Status Validate(const v1::Profile& profile) const = 0;
  // Finds the index, and a statement that is to use it. Refuses what could not be undone.
  virtual absl::Status Open(const v1::Profile& profile, const std::string& run,
                            const Patience& patience) = 0;
  // By name: of a process that has not opened it.
  virtual absl::StatusOr<IndexState> LookByName(const v1::Profile& profile, const std::string& run,
                                                const Patience& patience) const = 0;
  // The rest after Open() only.
  virtual const std::string& identity() const = 0;
  virtual const std::string& table() const = 0;
  virtual const std::string& statement() const = 0;
  virtual absl::StatusOr<std::unique_ptr<PlanSession>> OpenPlans(
      const std::string& run, const Patience& patience) const = 0;
  // An answer of the server to the statement itself, which every session of an application gets as
  // well: somebody has changed the table.
  virtual bool Refuses(const absl::Status& status) const = 0;
  // Opens what Lose() needs.
  virtual absl::Status OpenForLoss(const std::string& run, const Patience& patience) = 0;
  virtual absl::Status Lose(const Patience& patience) = 0;
  // How the index is given back: see Undo.
  virtual std::string ByHand() const = 0;
  virtual std::string Access() const = 0;
};

class LostIndex final : public Fault, public Prepares, public TellsAfter {
 public:
  LostIndex(const v1::LoseIndex& message, std::unique_ptr<IndexServer> server)
      : message_(message), server_(std::move(server)) {}

  absl::Status Validate(const Node& node) const override;
  absl::Status Prepare(const Context& context, Node& node) override;
  absl::Status Apply(const Context& context, Node& node, Changes& changes) override;
  absl::StatusOr<v1::Observation> Observe(const Context& context, const Node& node) const override;
  void Release() override;
  absl::Status ReadBack(const Context& context, const Node& node) const override;
  std::optional<v1::Observation> After() const override { return after_; }

 private:
  // What the server says of the index, and what it does.
  struct Sight {
    IndexState index = IndexState::kGone;
    IndexPlan pooled;
    IndexPlan fresh;
    // Why there are no plans to be seen. Of an index that is gone there are none either.
    absl::Status blind;
  };
  v1::Observation Saying(const Sight& now) const;
  absl::StatusOr<Sight> Look(const std::string& run, const Patience& patience) const;
  absl::StatusOr<Sight> LookOnce(const std::string& run, const Patience& patience) const;
  absl::Status LookAtPlans(const std::string& run, const Patience& patience, Sight& sight) const;
  absl::Status CheckPlan(const std::string& run, const Patience& patience);
  absl::Status StillLost() const;

  const v1::LoseIndex message_;
  const std::unique_ptr<IndexServer> server_;
  Sight before_;
  mutable std::optional<v1::Observation> after_;
  // Let go of when the index is seen to be used again.
  mutable std::unique_ptr<PlanSession> prepared_;
  bool applied_ = false;
};

}  // namespace firedrill
