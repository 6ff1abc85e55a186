#!/usr/bin/env bash
# Starts the servers that the tests of connectors need, runs a command, and stops what it has started:
#   ci/services.sh kafka -- cargo test -p tidemill-connectors --features kafka --test kafka
# Without a command it waits until it is interrupted. It installs what is missing (Java and Maven from Debian's packages, Apache
# Kafka from Maven Central). All servers listen on 127.0.0.1 only.
set -euo pipefail
cd "$(dirname "$0")/.."
services=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do services+=("$1"); shift; done
[ $# -eq 0 ] || shift
[ ${#services[@]} -gt 0 ] || services=(kafka)
home=${TIDEMILL_SERVICES_DIR:-target/services}
mkdir -p "$home"
home=$(cd "$home" && pwd)
pids=() # files with the numbers of processes, which change where a test restarts a server
stop() {
  for file in "${pids[@]}"; do kill "$(<"$file")" 2>/dev/null || true; done
  for file in "${pids[@]}"; do
    while kill -0 "$(<"$file")" 2>/dev/null; do sleep 0.1; done
  done
}
trap stop EXIT

# Installs a Debian package that provides a command, if the command is not there.
need() {
  command -v "$1" >/dev/null && return
  echo "installing $2"
  apt-get update -qq >/dev/null && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$2" >/dev/null
}

# Waits until a port answers.
await() {
  for _ in $(seq 240); do
    if (echo >"/dev/tcp/127.0.0.1/$1") 2>/dev/null; then return; fi
    sleep 0.25
  done
  echo "$2 does not answer on port $1; its log:" >&2
  tail -20 "$3" >&2
  exit 1
}

kafka() {
  local version=4.1.0 port=${TIDEMILL_KAFKA_PORT:-19092}
  local jars=$home/kafka-$version
  need java openjdk-17-jre-headless
  if [ ! -e "$jars/complete" ]; then
    need mvn maven
    mkdir -p "$jars"
    cat >"$jars/pom.xml" <<POM
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>local</groupId><artifactId>broker</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>$version</version></dependency>
  </dependencies>
</project>
POM
    echo "fetching Apache Kafka $version"
    mvn -q -B -f "$jars/pom.xml" dependency:copy-dependencies -DoutputDirectory="$jars/libs"
    touch "$jars/complete"
  fi
  local data=$home/kafka-data
  rm -rf "$data"
  mkdir -p "$data"
  cat >"$data/server.properties" <<PROPERTIES
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$((port + 1))
listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$((port + 1))
advertised.listeners=PLAINTEXT://127.0.0.1:$port
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
log.dirs=$data/log
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
group.initial.rebalance.delay.ms=0
broker.heartbeat.interval.ms=500
broker.session.timeout.ms=2000
PROPERTIES
  java -cp "$jars/libs/*" kafka.tools.StorageTool format -t AAAAAAAAAAAAAAAAAAAAAQ -c "$data/server.properties" >"$data/format.log" 2>&1
  # Kills the broker, if it runs, and starts it.
  cat >"$data/restart.sh" <<RESTART
#!/usr/bin/env bash
if [ -e "$data/pid" ]; then
  kill -9 "\$(<"$data/pid")"
  while kill -0 "\$(<"$data/pid")" 2>/dev/null; do sleep 0.05; done
fi
setsid java -Xmx512m -cp "$jars/libs/*" kafka.Kafka "$data/server.properties" >>"$data/broker.log" 2>&1 </dev/null &
echo \$! >"$data/pid"
RESTART
  chmod +x "$data/restart.sh"
  "$data/restart.sh"
  pids+=("$data/pid")
  await "$port" "Apache Kafka" "$data/broker.log"
  export TIDEMILL_KAFKA=127.0.0.1:$port TIDEMILL_KAFKA_RESTART=$data/restart.sh
  echo "Apache Kafka $version is at $TIDEMILL_KAFKA"
}

for service in "${services[@]}"; do
  case $service in
    kafka) kafka ;;
    *) echo "unknown service $service: there is kafka" >&2; exit 2 ;;
  esac
done
if [ $# -gt 0 ]; then "$@"; else wait; fi
