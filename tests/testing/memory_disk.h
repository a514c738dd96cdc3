// A disk of the simulation: it fills up, and it can take the process with it in the middle of a
// write.
#pragma once

#include <algorithm>
#include <map>
#include <optional>
#include <string>

#include "injector/disk.h"

namespace firedrill {

class MemoryDisk;

// Thrown where a simulated process is killed: nothing of it runs afterwards.
struct Killed {
  // In a write to this disk; null where it was killed elsewhere.
  const MemoryDisk* disk = nullptr;
};

class MemoryDisk final : public Disk {
 public:
  std::map<std::string, std::string> files;
  // Bytes that can still be written; what does not fit is written in part.
  std::optional<size_t> space;
  // Writing operations until the process is killed in the middle of one (0: in the next one).
  std::optional<int> kill_in;
  // How much of that operation's bytes is on the disk.
  double torn_share = 0.5;
  // Of writes that became durable.
  int writes = 0;

  absl::StatusOr<std::string> Read(const std::string& name) const override {
    const auto found = files.find(name);
    if (found == files.end()) return absl::NotFoundError("reading " + name + ": no such file");
    return found->second;
  }
  absl::Status Append(const std::string& name, absl::string_view bytes) override {
    if (KilledNow()) {
      files[name].append(bytes.data(), static_cast<size_t>(bytes.size() * torn_share));
      throw Killed{this};
    }
    const size_t fits = std::min(bytes.size(), space.value_or(bytes.size()));
    files[name].append(bytes.data(), fits);
    if (space.has_value()) *space -= fits;
    if (fits < bytes.size()) return Full(name);
    ++writes;
    return absl::OkStatus();
  }
  absl::Status Replace(const std::string& name, absl::string_view bytes) override {
    if (KilledNow()) throw Killed{this};
    if (space.has_value() && bytes.size() > *space) return Full(name);
    files[name] = std::string(bytes);
    ++writes;
    return absl::OkStatus();
  }
  absl::Status Remove(const std::string& name) override {
    if (KilledNow()) throw Killed{this};
    files.erase(name);
    return absl::OkStatus();
  }
  bool Exists(const std::string& name) const override { return files.count(name) > 0; }

 private:
  bool KilledNow() {
    if (!kill_in.has_value()) return false;
    if (*kill_in > 0) {
      --*kill_in;
      return false;
    }
    kill_in.reset();
    return true;
  }
  static absl::Status Full(const std::string& name) {
    return absl::ResourceExhaustedError("writing " + name + ": No space left on device");
  }
};

}  // namespace firedrill
