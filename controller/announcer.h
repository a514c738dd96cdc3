// Tells the site's announce URLs what a run does, as a JSON POST each. Nobody waits for them.
#pragma once

#include <string>
#include <vector>

#include "firedrill/v1/run.pb.h"

namespace firedrill {

// Blocks until every URL has answered or its deadline has passed; one report each. Any thread.
std::vector<v1::Announced> AnnounceTo(const std::vector<std::string>& urls,
                                      const v1::RunCreated& created, const std::string& what,
                                      const std::string& detail);

}  // namespace firedrill
