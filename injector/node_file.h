// The node as its own file describes it: what faults may know of it, and what is told to a
// controller.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "firedrill/v1/injector.pb.h"
#include "firedrill/v1/site.pb.h"
#include "injector/fault.h"

namespace firedrill {

// The real node: a copy of its spec.
class FileNode final : public Node {
 public:
  explicit FileNode(v1::NodeSpec spec) : spec_(std::move(spec)) {}
  const v1::NodeSpec& spec() const override { return spec_; }
  absl::StatusOr<v1::Profile> FindProfile(absl::string_view name) const override;
  absl::StatusOr<v1::HostSubject> FindSubject(absl::string_view name) const override;
  absl::StatusOr<v1::Program> FindProgram(absl::string_view name) const override;
  absl::StatusOr<v1::ValueFile> FindValues(absl::string_view name) const override;

 private:
  const v1::NodeSpec spec_;
};

// Refuses a file that somebody else than root or this user could have written: it names the
// programs that are run here. Blocks on the disk.
absl::Status CheckOwnership(const std::string& path);

// What the registries hold, for a registration: every kind the vocabulary knows, available or not.
std::vector<v1::Capability> RegisteredCapabilities();

// The part of a registration that the node's file gives: no address and no secret of a profile is
// in it.
v1::Registration DescribeNode(const v1::NodeSpec& spec);

}  // namespace firedrill
