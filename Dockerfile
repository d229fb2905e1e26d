# syntax=docker/dockerfile:1
FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=dev
RUN CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags "-s -w -X rotunda.dev/rotunda/internal/cli.built=$VERSION" -o /out/rotunda ./cmd/rotunda \
 && mkdir -p -m 0700 /out/data /out/config

# Nothing but the binary: no shell, no package manager, no user database.
FROM scratch
LABEL org.opencontainers.image.title="Rotunda" \
      org.opencontainers.image.description="A secrets manager whose heart is rotation" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /out/rotunda /rotunda
COPY --from=build --chown=65532:65532 /out/data /data
COPY --from=build --chown=65532:65532 /out/config /config
USER 65532:65532
# The keys live under /config, apart from the data: mount both, on different volumes.
# The node makes directories of its own in them, so that it does not matter which
# mode a volume has.
ENV XDG_CONFIG_HOME=/config XDG_STATE_HOME=/config/state HOME=/config
VOLUME ["/data", "/config"]
EXPOSE 8200
HEALTHCHECK --interval=10s --timeout=3s CMD ["/rotunda", "status", "--quiet"]
ENTRYPOINT ["/rotunda"]
CMD ["up", "--data", "/data/node", "--listen", "0.0.0.0:8200"]
