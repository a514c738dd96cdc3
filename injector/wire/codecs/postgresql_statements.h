// What PostgreSQL's prepared statements were prepared from. The texts are shared by all
// connections, as the clients of a pool prepare the same ones over and over.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"

namespace firedrill::wire::postgresql {

// A text of a session's; immutable.
struct Text {
  std::string text;
  std::string user;
  std::string database;
  // `text` is the beginning only.
  bool cut = false;
  // Never 0; of no other text of this process, ever.
  uint64_t number = 0;
};
using TextPointer = std::shared_ptr<const Text>;

// The one that everybody shares. Any thread.
TextPointer Share(absl::string_view text, bool cut, const Text& session);
TextPointer ShareSession(absl::string_view user, absl::string_view database);

// The named statements and portals of one session. One thread.
class Statements {
 public:
  // Beyond either, the oldest quarter is forgotten.
  static constexpr size_t kMaxCount = 1024;
  static constexpr size_t kMaxBytes = 1 << 20;
  // Beyond that, the oldest are forgotten.
  static constexpr size_t kMaxPortals = 64;

  // A Parse is under way; its statement holds once it is confirmed, in order. At most kMaxCount.
  size_t preparing() const { return preparing_.size() + closing_.size(); }
  void Prepare(absl::string_view name, TextPointer text);
  void PrepareConfirmed();
  void PrepareFailed();
  // The same for a Close.
  void Close(absl::string_view name);
  void CloseConfirmed();
  void CloseFailed();
  // By SQL, without anything that would confirm it.
  void Keep(absl::string_view name, TextPointer text);
  void Forget(absl::string_view name);
  void ForgetAll();

  // nullptr when there is none, or none that is remembered.
  TextPointer Find(absl::string_view name) const;
  // By the hash of a name; without a count of references, so until the next call that changes
  // something.
  static uint64_t Hash(absl::string_view name);
  const Text* Look(uint64_t hash) const;

  void Bind(absl::string_view portal, TextPointer text);
  const Text* Portal(absl::string_view portal) const;
  void ForgetPortal(absl::string_view portal);
  void ForgetPortals() { portals_.clear(); }

  size_t size() const { return kept_.size(); }

 private:
  struct Kept {
    TextPointer text;
    uint64_t age = 0;
  };
  struct Named {
    uint64_t name;
    TextPointer text;
  };

  void Put(uint64_t name, TextPointer text);
  void Drop(uint64_t name);

  // Names are known by their hash only.
  absl::flat_hash_map<uint64_t, Kept> kept_;
  std::vector<Named> preparing_;
  std::vector<uint64_t> closing_;
  std::vector<Named> portals_;
  size_t bytes_ = 0;
  uint64_t age_ = 0;
};

}  // namespace firedrill::wire::postgresql
