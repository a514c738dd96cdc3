// Fails the build where an RPC does not say who may call it. Looks at what protoc has compiled, so
// that it matters to nobody how the text is written: check_roles DESCRIPTOR_SET, with imports.
#include <google/protobuf/descriptor.h>
#include <google/protobuf/descriptor.pb.h>
#include <google/protobuf/dynamic_message.h>

#include <cstdio>
#include <fstream>
#include <string>

namespace pb = google::protobuf;

namespace {

constexpr char kPackage[] = "firedrill.v1";

// The option as the pool knows it; the methods' own options are bytes to this program.
bool HasRole(const pb::DescriptorPool& pool, pb::DynamicMessageFactory& messages,
             const pb::MethodDescriptor& method) {
  const pb::FieldDescriptor* const role = pool.FindExtensionByName(std::string(kPackage) + ".role");
  const pb::Descriptor* const type = pool.FindMessageTypeByName("google.protobuf.MethodOptions");
  if (role == nullptr || type == nullptr) return false;
  const std::unique_ptr<pb::Message> options(messages.GetPrototype(type)->New());
  if (!options->ParseFromString(method.options().SerializeAsString())) return false;
  // 0 is ROLE_UNSPECIFIED: nobody's.
  return options->GetReflection()->GetEnumValue(*options, role) != 0;
}

}  // namespace

int main(int argc, char** argv) {
  pb::FileDescriptorSet set;
  std::ifstream file(argc == 2 ? argv[1] : "", std::ios::binary);
  if (!set.ParseFromIstream(&file) || set.file_size() == 0) {
    std::fprintf(stderr, "check_roles: name the descriptor set that protoc has written\n");
    return 2;
  }
  pb::DescriptorPool pool;
  pb::DynamicMessageFactory messages;
  int methods = 0, without = 0;
  // protoc writes what is imported before what imports it.
  for (const pb::FileDescriptorProto& each : set.file()) {
    const pb::FileDescriptor* const built = pool.BuildFile(each);
    if (built == nullptr) return 2;
    for (int i = 0; i < built->service_count(); ++i) {
      for (int j = 0; j < built->service(i)->method_count(); ++j) {
        const pb::MethodDescriptor& method = *built->service(i)->method(j);
        ++methods;
        if (HasRole(pool, messages, method)) continue;
        ++without;
        std::fprintf(stderr,
                     "%s: rpc %s does not say who may call it: add option (role) = ROLE_...; to "
                     "its body\n",
                     built->name().c_str(), method.full_name().c_str());
      }
    }
  }
  if (without == 0 && methods > 0) return 0;
  if (methods == 0) std::fprintf(stderr, "check_roles: %s holds no rpc at all\n", argv[1]);
  return 1;
}
