// `firedrill pki`: a private certificate authority, for teams that have no other.
#pragma once

#include <string>
#include <vector>

namespace firedrill {

// Each prints, and returns the exit code; a duration is as people write it, empty for the default.
int PkiInitCommand(const std::string& folder, const std::string& domain, const std::string& lasts);
int PkiIssueCommand(const std::string& folder, const std::string& role, const std::string& name,
                    const std::vector<std::string>& hosts, const std::string& lasts,
                    const std::string& out);
int PkiRevokeCommand(const std::string& folder, const std::string& name_or_serial,
                     const std::string& reason);
int PkiListCommand(const std::string& folder);

}  // namespace firedrill
