-- The state database of docker-compose.dev.yaml.
CREATE DATABASE sqlsentinel;
