// The limit of open files.
#include "injector/os/descriptors.h"

#include <sys/resource.h>

#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"

namespace firedrill {

absl::Status PermitDescriptors(size_t count) {
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  if (limit.rlim_cur >= count) return absl::OkStatus();
  if (limit.rlim_max < count) {
    return absl::ResourceExhaustedError(
        absl::StrCat("this process may open ", limit.rlim_max, " files, and needs ", count,
                     "; raise the hard limit (LimitNOFILE=) or ask for fewer"));
  }
  limit.rlim_cur = count;
  if (setrlimit(RLIMIT_NOFILE, &limit) != 0) {
    return absl::InternalError(
        absl::StrCat("raising the limit of open files to ", count, ": ", std::strerror(errno)));
  }
  return absl::OkStatus();
}

}  // namespace firedrill
