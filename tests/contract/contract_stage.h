// The stage on which the contract test tries a fault: a server of one protocol, and what there must
// look the same before a fault and after it.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "tests/testing/fault_stage.h"

namespace firedrill {

class ContractStage {
 public:
  virtual ~ContractStage() = default;
  // On 127.0.0.1.
  virtual int port() const = 0;
  // The profiles, and all else that the examples of this protocol name.
  virtual void Furnish(StageNode& node) = 0;
  // Opens sessions of others, which a fault may disturb; those of an earlier call are closed.
  virtual void Populate() = 0;
  // Everything that a fault could change or leave, but for the look itself. What a fault holds is
  // called "firedrill" there.
  virtual std::string Snapshot() = 0;
  // Connections of faults, but for those by which they only look.
  virtual int Held() = 0;
};

// The one stage of this protocol in this process, started when it is first asked for; that of
// PostgreSQL for faults without a protocol. A null pointer when it could not be started.
ContractStage* StageOf(v1::Protocol protocol);
// Ends every server.
void StrikeStages();

// `const StageRegistration kStage(v1::PROTOCOL_MYSQL, Start);`, where Start() gives a null pointer
// when there is no server.
class StageRegistration {
 public:
  StageRegistration(v1::Protocol protocol, std::function<std::unique_ptr<ContractStage>()> start);
};

}  // namespace firedrill
