#!/bin/sh
# Runs once, when the volume is new: a database for Prefect and one for MLflow, each with a user
# of its own who can enter no other.
set -eu

for name in prefect mlflow; do
    case $name in
        prefect) password=$PREFECT_DB_PASSWORD ;;
        mlflow) password=$MLFLOW_DB_PASSWORD ;;
    esac
    psql --set ON_ERROR_STOP=1 --set name="$name" --set password="$password" \
        --username "$POSTGRES_USER" --dbname postgres <<-'SQL'
		CREATE ROLE :"name" LOGIN PASSWORD :'password';
		CREATE DATABASE :"name" OWNER :"name";
		REVOKE CONNECT ON DATABASE :"name" FROM PUBLIC;
	SQL
done
