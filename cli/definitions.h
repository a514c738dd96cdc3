// Reads the files of a command: all of them, before anything else is done, with all their errors at
// once.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "cli/commands.h"
#include "firedrill/v1/experiment.pb.h"
#include "firedrill/v1/run.pb.h"
#include "firedrill/v1/site.pb.h"

namespace firedrill {

struct Definition {
  std::string file;
  v1::Experiment experiment;
  // "expect.alerts[0]" → where it stands.
  std::map<std::string, v1::Position> positions;
};

struct Definitions {
  std::vector<Definition> experiments;
  std::string site_file;
  v1::Site site;
};

// Without the checks against a site where a controller elsewhere has its own. Empty where anything
// is wrong, which has been printed to standard error by then.
std::optional<Definitions> ReadDefinitions(const std::vector<std::string>& files,
                                           const Places& places);

// Before a run: sees whether `file` can be written, and removes what an earlier run wrote there,
// which must not be taken for this one's.
absl::Status ClearForWriting(const std::string& file);
// Writes the whole text, or says why not and leaves what was there. A pipe or a device is written
// to as it is.
absl::Status WriteText(const std::string& file, const std::string& text);

}  // namespace firedrill
