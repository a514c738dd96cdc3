// Where a test binary keeps its temporary folders. One that is killed cannot tidy up: the next
// start of the same binary does it.
#pragma once

#include <sys/types.h>

#include <string>

#include "absl/strings/string_view.h"

namespace firedrill {

// "/tmp/firedrill-<binary>.<pid>.<start>", made at the first call, 0755, removed when the process
// exits. The first call also removes what dead processes of the same binary have left.
const std::string& TestFolder();

// Removes "<base>/firedrill-<binary>.<pid>.<start>" of every process that lives no more; a pid that
// belongs to another process by now is told by its start time.
void RemoveFoldersOfTheDead(const std::string& base, absl::string_view binary);

// The name of such a folder; empty where the process is dead.
std::string FolderNameOf(absl::string_view binary, pid_t pid);

}  // namespace firedrill
