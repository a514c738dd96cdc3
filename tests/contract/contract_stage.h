// The stage on which the contract test tries a fault: a server of one protocol, its clients, and
// what there must look the same before a fault and after it.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "tests/testing/fault_stage.h"

namespace firedrill {

// A client of the server on TCP, as an application's would be. A connection that is silent is
// waited for, for 30 s at most. One thread at a time.
class TrafficClient {
 public:
  virtual ~TrafficClient() = default;
  // Asks what TrafficWords name. Whether the right answer came, whole.
  virtual bool Ask() = 0;
  // Asks for 100 kB.
  virtual bool AskMuch() = 0;
};

// How an example that is written for PostgreSQL ("select", "users", "57014") is said in another
// protocol.
struct TrafficWords {
  std::string verb, table, error;
};

class ContractStage {
 public:
  virtual ~ContractStage() = default;
  // Adds a profile of the server whose clients are TrafficClients.
  virtual void AddTrafficProfile(StageNode& node, const std::string& name) = 0;
  virtual TrafficWords words() const = 0;
  // A null pointer where it is not let in. From any thread.
  virtual std::unique_ptr<TrafficClient> NewClient() = 0;
  // The profiles, and all else that the examples of this protocol name.
  virtual void Furnish(StageNode& node) = 0;
  // Opens so many sessions of others, which a fault may disturb; those of an earlier call are
  // closed. TrafficClients are none of them.
  virtual void Populate(int sessions) = 0;
  // Everything that a fault could change or leave, but for the look itself. What a fault holds is
  // called "firedrill" there.
  virtual std::string Snapshot() = 0;
  // Connections of faults, but for those by which they only look.
  virtual int Held() = 0;
};

// The one stage of this protocol in this process, started when it is first asked for; this machine
// itself for faults without a protocol. A null pointer when it could not be started.
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
