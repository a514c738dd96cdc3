// Shared texts, and which of them a name stands for.
#include "injector/wire/codecs/postgresql_statements.h"

#include <algorithm>
#include <array>
#include <atomic>

#include "absl/hash/hash.h"
#include "base/mutex.h"

namespace firedrill::wire::postgresql {
namespace {

// In parts, so that threads seldom wait for each other. Never taken down: texts may outlive it.
struct Shelf {
  Mutex mutex;
  absl::flat_hash_map<uint64_t, std::weak_ptr<const Text>> texts FD_GUARDED_BY(mutex);
};

Shelf& ShelfOf(uint64_t key) {
  static auto* shelves = new std::array<Shelf, 16>;
  return (*shelves)[key % 16];
}

TextPointer ShareText(absl::string_view text, bool cut, absl::string_view user,
                      absl::string_view database) {
  static std::atomic<uint64_t> numbers{0};
  const uint64_t key = absl::HashOf(text, cut, user, database);
  Shelf& shelf = ShelfOf(key);
  MutexLock lock(shelf.mutex);
  std::weak_ptr<const Text>& place = shelf.texts[key];
  TextPointer found = place.lock();
  if (found != nullptr && found->text == text && found->cut == cut && found->user == user &&
      found->database == database) {
    return found;
  }
  auto* made = new Text{std::string(text), std::string(user), std::string(database), cut,
                        numbers.fetch_add(1, std::memory_order_relaxed) + 1};
  TextPointer shared(made, [key](const Text* gone) {
    {
      Shelf& its_shelf = ShelfOf(key);
      MutexLock its_lock(its_shelf.mutex);
      // Another one may have taken the place already.
      const auto it = its_shelf.texts.find(key);
      if (it != its_shelf.texts.end() && it->second.expired()) its_shelf.texts.erase(it);
    }
    delete gone;
  });
  // Two texts of one hash: the second is not shared.
  if (found == nullptr) place = shared;
  return shared;
}

}  // namespace

TextPointer Share(absl::string_view text, bool cut, const Text& session) {
  return ShareText(text, cut, session.user, session.database);
}

TextPointer ShareSession(absl::string_view user, absl::string_view database) {
  return ShareText("", false, user, database);
}

void Statements::Prepare(absl::string_view name, TextPointer text) {
  preparing_.push_back({Hash(name), std::move(text)});
}

void Statements::PrepareConfirmed() {
  if (preparing_.empty()) return;
  Named first = std::move(preparing_.front());
  preparing_.erase(preparing_.begin());
  Put(first.name, std::move(first.text));
}

void Statements::PrepareFailed() {
  if (!preparing_.empty()) preparing_.erase(preparing_.begin());
}

void Statements::Close(absl::string_view name) { closing_.push_back(Hash(name)); }

void Statements::CloseConfirmed() {
  if (closing_.empty()) return;
  Drop(closing_.front());
  closing_.erase(closing_.begin());
}

void Statements::CloseFailed() {
  if (!closing_.empty()) closing_.erase(closing_.begin());
}

void Statements::Expect(absl::string_view name, TextPointer text, uint32_t place) {
  Add(Hash(name), std::move(text), place, false);
}

void Statements::ExpectForgotten(uint32_t place) { Add(0, nullptr, place, true); }

void Statements::Add(uint64_t name, TextPointer text, uint32_t place, bool all) {
  // It stays unknown.
  if (preparing() >= kMaxCount) return;
  if (naming_ == nullptr) naming_ = std::make_unique<std::vector<Naming>>();
  const bool first = naming_->empty() || naming_->back().last;
  const uint32_t left = first ? place : place - naming_->back().place - 1;
  naming_->push_back({name, std::move(text), place, left, all, false});
}

bool Statements::ExpectsEnd() {
  if (naming_ == nullptr || naming_->empty() || naming_->back().last) return false;
  naming_->back().last = true;
  return true;
}

bool Statements::Completed() {
  if (naming_ == nullptr || naming_->empty()) return true;
  if (naming_->front().left > 0) {
    --naming_->front().left;
    return false;
  }
  Naming naming = std::move(naming_->front());
  naming_->erase(naming_->begin());
  if (naming.all) {
    kept_.clear();
    bytes_ = 0;
  } else if (naming.text == nullptr) {
    Drop(naming.name);
  } else {
    Put(naming.name, std::move(naming.text));
  }
  return naming.last;
}

void Statements::NothingMore() {
  for (bool last = false; !last && !naming_->empty(); naming_->erase(naming_->begin())) {
    last = naming_->front().last;
  }
}

void Statements::Withdraw(size_t before) {
  auto begin = naming_->begin();
  for (; before > 0; ++begin) before -= begin->last ? 1 : 0;
  auto end = begin;
  while (!(end++)->last) continue;
  naming_->erase(begin, end);
}

const Statements::Naming* Statements::FindNaming(uint64_t name) const {
  if (naming_ == nullptr) return nullptr;
  for (auto it = naming_->rbegin(); it != naming_->rend(); ++it) {
    if (it->all || it->name == name) return &*it;
  }
  return nullptr;
}

void Statements::Put(uint64_t name, TextPointer text) {
  Drop(name);
  bytes_ += text->text.size();
  kept_[name] = {std::move(text), ++age_};
  if (kept_.size() <= kMaxCount && bytes_ <= kMaxBytes) return;
  std::vector<uint64_t> ages;
  ages.reserve(kept_.size());
  for (const auto& [hash, kept] : kept_) ages.push_back(kept.age);
  const size_t quarter = std::max<size_t>(1, ages.size() / 4);
  std::nth_element(ages.begin(), ages.begin() + quarter - 1, ages.end());
  const uint64_t youngest = ages[quarter - 1];
  absl::erase_if(kept_, [&](const auto& item) {
    if (item.second.age > youngest) return false;
    bytes_ -= item.second.text->text.size();
    return true;
  });
}

void Statements::Drop(uint64_t name) {
  const auto it = kept_.find(name);
  if (it == kept_.end()) return;
  bytes_ -= it->second.text->text.size();
  kept_.erase(it);
}

uint64_t Statements::Hash(absl::string_view name) { return absl::HashOf(name); }

const Text* Statements::Look(uint64_t hash) const {
  if (const Naming* naming = FindNaming(hash)) return naming->text.get();
  for (auto it = preparing_.rbegin(); it != preparing_.rend(); ++it) {
    if (it->name == hash) return it->text.get();
  }
  const auto it = kept_.find(hash);
  return it == kept_.end() ? nullptr : it->second.text.get();
}

TextPointer Statements::Find(absl::string_view name) const {
  const uint64_t hash = Hash(name);
  if (const Naming* naming = FindNaming(hash)) return naming->text;
  for (auto it = preparing_.rbegin(); it != preparing_.rend(); ++it) {
    if (it->name == hash) return it->text;
  }
  const auto it = kept_.find(hash);
  return it == kept_.end() ? nullptr : it->second.text;
}

void Statements::Bind(absl::string_view portal, TextPointer text) {
  ForgetPortal(portal);
  if (portals_.size() >= kMaxPortals) portals_.erase(portals_.begin());
  portals_.push_back({Hash(portal), std::move(text)});
}

const Text* Statements::Portal(absl::string_view portal) const {
  const uint64_t hash = Hash(portal);
  for (const Named& named : portals_) {
    if (named.name == hash) return named.text.get();
  }
  return nullptr;
}

void Statements::ForgetPortal(absl::string_view portal) {
  const uint64_t hash = Hash(portal);
  portals_.erase(std::remove_if(portals_.begin(), portals_.end(),
                                [&](const Named& named) { return named.name == hash; }),
                 portals_.end());
}

}  // namespace firedrill::wire::postgresql
