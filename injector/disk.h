// Where journal, epochs and STOP file of one node are kept. Files are the real thing; the
// simulation has disks that fill up, and that tear the last line when the power goes.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace firedrill {

// `name` is a plain file name. Blocks until the disk has it. One thread at a time for one name.
class Disk {
 public:
  virtual ~Disk() = default;
  // NOT_FOUND where there is no such file.
  virtual absl::StatusOr<std::string> Read(const std::string& name) const = 0;
  // Durable when it returns OK. When it fails, a part of `bytes` may be there, up to its last byte.
  virtual absl::Status Append(const std::string& name, absl::string_view bytes) = 0;
  // Old or new content, never a mixture; durable when it returns OK.
  virtual absl::Status Replace(const std::string& name, absl::string_view bytes) = 0;
  // OK where it was not there.
  virtual absl::Status Remove(const std::string& name) = 0;
  virtual bool Exists(const std::string& name) const = 0;
};

// The files of one folder, which must exist.
class FileDisk final : public Disk {
 public:
  // More than this is not a file of ours.
  static constexpr size_t kLargest = 64 << 20;

  explicit FileDisk(std::string folder) : folder_(std::move(folder)) {}
  absl::StatusOr<std::string> Read(const std::string& name) const override;
  absl::Status Append(const std::string& name, absl::string_view bytes) override;
  absl::Status Replace(const std::string& name, absl::string_view bytes) override;
  absl::Status Remove(const std::string& name) override;
  bool Exists(const std::string& name) const override;

  const std::string& folder() const { return folder_; }

 private:
  std::string Path(const std::string& name) const { return folder_ + "/" + name; }
  absl::Status SyncFolder() const;

  const std::string folder_;
};

}  // namespace firedrill
