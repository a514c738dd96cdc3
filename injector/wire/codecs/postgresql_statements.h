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
  size_t preparing() const {
    return preparing_.size() + closing_.size() + (naming_ == nullptr ? 0 : naming_->size());
  }
  void Prepare(absl::string_view name, TextPointer text);
  void PrepareConfirmed();
  void PrepareFailed();
  // The same for a Close.
  void Close(absl::string_view name);
  void CloseConfirmed();
  void CloseFailed();

  // By the SQL of a query: holds once the server has completed the statement behind `place` others
  // of it. Without a text the name is forgotten; ExpectForgotten() is about all of them.
  void Expect(absl::string_view name, TextPointer text, uint32_t place);
  void ExpectForgotten(uint32_t place);
  // That was all of this query. False: it expects nothing.
  bool ExpectsEnd();
  // Of the oldest query that expects something, the next statement is completed. True: it expects
  // nothing more.
  bool Completed();
  // It completes nothing more.
  void NothingMore();
  // The one behind `before` others that expect something does not come to the server.
  void Withdraw(size_t before);

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

  // No text: it is to be forgotten.
  struct Naming {
    uint64_t name;
    TextPointer text;
    // In its query; and how many statements are still to be completed before it.
    uint32_t place;
    uint32_t left;
    bool all;
    bool last;
  };

  void Add(uint64_t name, TextPointer text, uint32_t place, bool all);
  const Naming* FindNaming(uint64_t name) const;
  void Put(uint64_t name, TextPointer text);
  void Drop(uint64_t name);

  // Names are known by their hash only.
  absl::flat_hash_map<uint64_t, Kept> kept_;
  std::vector<Named> preparing_;
  // In the order of the queries; those of one end with its last. Most sessions have none.
  std::unique_ptr<std::vector<Naming>> naming_;
  std::vector<uint64_t> closing_;
  std::vector<Named> portals_;
  size_t bytes_ = 0;
  uint64_t age_ = 0;
};

}  // namespace firedrill::wire::postgresql
